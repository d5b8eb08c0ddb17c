"""Where a stage's command runs: in a process of the worker, in a container, or in a pod."""
