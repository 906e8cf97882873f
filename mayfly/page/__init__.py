"""`mayfly dashboard`: a page on this machine that shows what `status`, `idle` and `cost` say."""
