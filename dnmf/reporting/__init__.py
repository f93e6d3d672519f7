"""One page that shows a result or a study: figures, and what to read from each."""
