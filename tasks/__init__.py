"""What is done: each verb here is one stage of the pipeline, each noun is shared by stages."""
