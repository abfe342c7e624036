"""`make bench`: the figures that the documents quote, each with what it compares to, from one run."""
