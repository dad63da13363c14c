"""What the tests share: real servers, a farm over real adapters, small real models."""
