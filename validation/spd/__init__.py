"""SPD on real weights: what each dropped sync costs a checkpoint, and winning it back.

text -> windows of tokens; network -> a model run block by block; block -> one block on virtual
ranks; scan -> the sensitivity of every block; recover -> all dropped blocks in turn (repair:
one block; sample, grouping, permute, distil: its steps); folder, record, corrections -> the
repaired checkpoint; resume -> what an interrupted recovery keeps.
"""
