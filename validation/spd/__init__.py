"""SPD on real weights, in three rooms.

`model` runs a checkpoint block by block on virtual ranks and measures what each dropped all-reduce
costs its perplexity; `recover` wins it back, step by step; `checkpoint` is the recovered folder,
its record, and what an interrupted run keeps.
"""
