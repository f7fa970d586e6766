from mephisto.abstractions.database import MephistoDB
from mephisto.data_model.requester import Requester

def get_mock_requester(db: MephistoDB) -> Requester: ...
