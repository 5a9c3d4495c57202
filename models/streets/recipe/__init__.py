"""How the streets demo model is trained, measured and written."""
