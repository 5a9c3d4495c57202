"""How accurate an engine is on labelled pictures: data sets, the confusion matrix, the scores, the record of it."""
