"""What came of a load test: its records, statistics that know that neighbouring calls are not
independent, the verdict on an ``slo``, the comparison of two runs, and the search for the highest
rate. Pure functions of records.
"""
