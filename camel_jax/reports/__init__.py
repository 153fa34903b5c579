"""What is told to people: a recommendation, its evidence, its panels, the page."""
