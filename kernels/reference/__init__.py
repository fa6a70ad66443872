"""The slow, obvious twins: plain Python that says what each kernel must return."""
