"""The paper, section by section: 2.1 fid, 2.2 lumen, 3.1 glimmer, 3.2 pdist, the ablations in variants."""
