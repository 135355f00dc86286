"""Networks, their losses, and cross supervision."""
