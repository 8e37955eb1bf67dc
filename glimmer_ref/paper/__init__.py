"""The paper, section by section: 2.1 fid, 2.2 lumen, 3.1 glimmer, the ablations in variants."""
