"""From the trackers and evaluators that teams use to run tables, and from mixtures to the trainers that they use."""
