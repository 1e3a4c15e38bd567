"""How good a model is: loss, predicted SQL, and rates made of them."""
