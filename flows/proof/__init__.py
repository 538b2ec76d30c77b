"""Prove a model: rebuild what it claims to come from, elsewhere, and compare every byte."""
