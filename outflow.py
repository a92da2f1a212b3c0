"""The front door: one command per thing a person does."""
