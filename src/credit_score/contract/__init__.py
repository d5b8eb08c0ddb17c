"""What a contract is made of, and the forms that are derived from it."""
