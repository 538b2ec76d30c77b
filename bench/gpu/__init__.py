"""What the learners do on a GPU; needs torch, numpy, polars and xgboost alone."""
