"""The prediction log: predictions are on local disk before they are answered, and sent to the feature store later."""
