"""The message broker: embedded or Redis, its users, and how doorbells are published."""
