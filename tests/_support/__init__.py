"""What several tests share: tiny models, jobs for ranks, saved results, page blocks."""
