"""This package has the search space of elastic ResNets: its choices, networks and supernet."""
