"""A corpus that is generated, in the form of SQuAD 2.0 and of Natural Questions."""
