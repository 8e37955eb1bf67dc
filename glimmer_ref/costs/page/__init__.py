"""The calculator as one offline page."""
