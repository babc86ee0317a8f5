"""What a training run needs besides the method: processes, checkpoints, averages, logs, seeds."""
