"""The names of the labels of the dataset's label maps, in the order of their numbers from 1, as a miniature writes them.

What reads the dataset takes names and numbers from the ``.ctab`` files and never from here.
"""

from collections.abc import Mapping

ECCENTRICITIES = (0.5, 1.0, 2.0, 4.0)  # degrees, the upper ends of the areas of prf-eccrois; the last area has none
KASTNER = "V1v V1d V2v V2d V3v V3d hV4 VO1 VO2 PHC1 PHC2 TO2 TO1 LO2 LO1 V3B V3A IPS0 IPS1 IPS2 IPS3 IPS4 IPS5 SPL1 FEF"
GLASSER = """
    V1 MST V6 V2 V3 V4 V8 4 3b FEF PEF 55b V3A RSC POS2 V7 IPS1 FFC V3B LO1 LO2 PIT MT A1 PSL SFL PCV STV 7Pm 7m
    POS1 23d v23ab d23ab 31pv 5m 5mv 23c 5L 24dd 24dv 7AL SCEF 6ma 7Am 7PL 7PC LIPv VIP MIP 1 2 3a 6d 6mp 6v p24pr 33pr a24pr p32pr
    a24 d32 8BM p32 10r 47m 8Av 8Ad 9m 8BL 9p 10d 8C 44 45 47l a47r 6r IFJa IFJp IFSp IFSa p9-46v 46 a9-46v 9-46d 9a 10v a10p 10pp
    11l 13l OFC 47s LIPd 6a i6-8 s6-8 43 OP4 OP1 OP2-3 52 RI PFcm PoI2 TA2 FOP4 MI Pir AVI AAIC FOP1 FOP3 FOP2 PFt AIP EC PreS H ProS
    PeEc STGa PBelt A5 PHA1 PHA3 STSda STSdp STSvp TGd TE1a TE1p TE2a TF TE2p PHT PH TPOJ1 TPOJ2 TPOJ3 DVT PGp IP2 IP1 IP0 PFop PF PFm
    PGi PGs V6A VMV1 VMV3 PHA2 V4t FST V3CD LO3 VMV2 31pd 31a VVC 25 s32 pOFC2 PoI1 Ig FOP5 p10p p47r TGv MBelt LBelt A4 STSva TE1m PI
    a32pr p24
"""
LABELS: Mapping[str, tuple[str, ...]] = {
    "nsdgeneral": ("nsdgeneral",),
    "prf-visualrois": ("V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4"),
    "prf-eccrois": ("ecc0pt5", "ecc1", "ecc2", "ecc4", "ecc4+"),
    "floc-faces": ("OFA", "FFA-1", "FFA-2", "mTL-faces", "aTL-faces"),
    "floc-words": ("OWFA", "VWFA-1", "VWFA-2", "mfs-words", "mTL-words"),
    "floc-places": ("OPA", "PPA", "RSC"),
    "floc-bodies": ("EBA", "FBA-1", "FBA-2", "mTL-bodies"),
    "streams": ("early", "midventral", "midlateral", "midparietal", "ventral", "lateral", "parietal"),
    "HCP_MMP1": tuple(GLASSER.split()),
    "Kastner2015": tuple(KASTNER.split()),
}
COMMON = ("nsdgeneral", "streams", "HCP_MMP1", "Kastner2015")  # maps that the average brain has as well

# What the simulation's areas are called in each map, where that is another name than their own.
CALLED: Mapping[str, Mapping[str, str]] = {
    "floc-faces": {"FFA": "FFA-1"},
    "floc-words": {"VWFA": "VWFA-1"},
    "streams": {
        **dict.fromkeys(("V1", "V2", "V3"), "early"),
        **{"hV4": "midventral", "LOC": "lateral", "OFA": "lateral", "EBA": "lateral"},
        **dict.fromkeys(("FFA", "VWFA", "PPA", "food"), "ventral"),
    },
    "HCP_MMP1": {"hV4": "V4", "LOC": "LO2", "OFA": "PIT", "FFA": "FFC", "EBA": "LO3", "VWFA": "PH", "PPA": "PHA3", "food": "VVC"},
    "Kastner2015": {"LOC": "LO2", "PPA": "PHC1"},
}
