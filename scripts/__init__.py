"""Programs for the people who work here: start, stop, test, demonstrate, measure."""
