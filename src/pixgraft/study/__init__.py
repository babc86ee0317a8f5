"""Ratings by people, as in Table 1 of pSp: a page for raters, and the mean opinion scores of what they saved."""
