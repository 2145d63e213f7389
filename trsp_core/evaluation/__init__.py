"""How a model is judged: losses, perplexity, speed, memory."""
