"""The watch on the feature store: every snapshot is held against the contract and against the last accepted one."""
