"""The fictional encyclopedias that the bundled model is trained and tested on, and its text adapter."""
