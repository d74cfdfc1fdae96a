"""What the authors of the dataset say of their data that a reader of scores should know."""

from cortexflow.data.nsd_layout.upkeep.inventory import SUBJECTS

PLANNED = max(facts.sessions for facts in SUBJECTS.values())
LOOSE = ("subj05", "subj08")  # fixated less accurately than the others
HOLES = ("subj06", "subj08")  # have vertices of the average brain without a number


def cautions(subject: str, space: str = "func1pt8mm") -> tuple[str, ...]:
    """One sentence each, those of this subject first; the same for a simulated copy, whose reader cannot know what it reads.

    Arguments:
        subject: As the dataset writes it.
        space: ``func1pt8mm``, ``func1mm`` or ``fsaverage``.
    """
    said = [sentence for sentence in (_fixation(subject), _sessions(subject), _vertices(subject, space)) if sentence]
    return (*said, *ALL)


ALL = (
    "All subjects, reported by the data paper: signal drops out near the ear canals and above the sinuses, so that ventral anterior areas "
    "are measured worse; the dataset's signaldropout maps say where.",
    "All subjects, reported by the data paper: pictures were shown up to three times during a memory task. The second and third time a "
    "picture is old, and its answer may differ by memory and adaptation, which the mean over repeats and the noise ceiling do not tell apart.",
)


def _fixation(subject: str) -> str:
    who = "fixated less accurately than the other subjects, which blurs what depends on the place in the picture"
    return f"{subject}, reported by the data paper: {who}." if subject in LOOSE else ""


def _sessions(subject: str) -> str:
    count = SUBJECTS[subject].sessions
    fewer = f"{count} of {PLANNED} planned sessions were recorded, so that pictures planned for later were seen once, twice or never"
    return f"{subject}, reported by the data manual: {fewer}." if count < PLANNED else ""


def _vertices(subject: str, space: str) -> str:
    if space != "fsaverage" or subject not in HOLES:
        return ""
    return f"{subject}, known from other readers of the data: some vertices of the average brain have no number."
