"""What jobs may work with: registered models and uploaded texts."""
