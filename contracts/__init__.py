"""The instance: one team's contracts for data, API, model, service and monitoring, stated here and nowhere else."""
