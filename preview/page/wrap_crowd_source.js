// In place of the crowd platform's file of this name: the worker's name and the assignment are in the page's address.
function previewParam(name) { return new URLSearchParams(window.location.search).get(name); }
function getWorkerName() { return previewParam("worker_id"); }
function getAssignmentId() { return previewParam("assignment_id"); }
function getAgentRegistration() {
  return { worker_name: getWorkerName(), agent_registration_id: getWorkerName() + "-" + getAssignmentId(),
    assignment_id: getAssignmentId(), provider_type: "mock" };
}
function handleSubmitToProvider() {}
