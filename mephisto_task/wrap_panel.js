/**
 * What Mephisto puts beside the page as wrap_crowd_source.js where participants come from a panel or by a link. The page reads
 * its address itself (frontend/src/mephisto/provider.ts), and the server decides who has come: there is nothing to wrap.
 */
function getWorkerName() {
  return null;
}

function getAssignmentId() {
  return null;
}

function getAgentRegistration() {
  return { provider_type: "panel" };
}
