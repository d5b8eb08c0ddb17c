"""What the service answers over HTTP: routes, keys, problems and the OpenAPI document."""
