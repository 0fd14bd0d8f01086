"""SPD on real weights: what each dropped sync costs a checkpoint, and winning it back.

text -> windows of tokens; network -> a model run block by block; block -> one block on virtual
ranks; scan -> the sensitivity of every block; recover -> the repairs, one block after the
other (grouping, distil); folder -> the repaired checkpoint.
"""
