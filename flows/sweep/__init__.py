"""Search hyperparameters: a sweep proposes, `params.yaml` disposes."""
