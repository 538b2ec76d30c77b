"""What the learner `network` is made of; its modules import PyTorch, which takes two seconds."""
