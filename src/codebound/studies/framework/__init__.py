"""What all studies share: a study declares what it asks and measures, the framework does the rest."""
