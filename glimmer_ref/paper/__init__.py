"""The paper, section by section; each file imports only from files above it in this list.

    t5.py            the layers of T5.1.1, which the paper builds on
    decoding.py      Dec of every system: the greedy answer, the likelihood of a given one, the language modeling loss
    fid.py           2.1  G = Dec[Enc(Q; Passage_1); .. Enc(Q; Passage_k)]
    lumen.py         2.2  H_i = [MemEnc(Q); MemEnc(Passage_i)];  G = Dec[Q; LiveEnc(H_1); .. LiveEnc(H_k)]
    glimmer.py       3.1  H'_i = LiveEncA(H_i);  R_j by Score(H'_i);  G = Dec[Q; LiveEncB(R_1); .. LiveEncB(R_m)]
    distillation.py  3.2  L_pdist = KL(p_rank, p_LM)
    systems.py       the three systems under one signature, and the training loss of each
    flops.py         2.1, 2.2, 3.3  F_FiD, F_lumen, F_glimmer

The systems return the input of the decoder, which the equations write in the brackets of Dec[..]. `decoding` turns it
into an answer. `PAPER.md` lists every equation with its function. In docstrings, square brackets hold shapes; `ragged`
explains their letters.
"""
