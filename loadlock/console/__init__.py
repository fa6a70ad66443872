"""The lake to look at: a local web console, and the parts of pages that the report is made of too."""
