"""What all HTML pages and JSON records of the package share: the frame, the style, pictures inside the page."""
