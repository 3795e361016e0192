"""Who answers a picture."""
