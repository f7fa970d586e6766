import { useState, type ReactElement } from "react";
import { Alert } from "../components/Alert";
import { ApiError, NOT_REACHED, type Api } from "./api";
import type { Session } from "./types";

/** The form for name and password; `onIn` gets the session. */
export function LoginForm({
  api,
  name: first,
  onIn,
}: {
  api: Api;
  name: string;
  onIn: (session: Session) => void;
}): ReactElement {
  const [name, setName] = useState(first);
  const [password, setPassword] = useState("");
  const [error, setError] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);

  const logIn = async (): Promise<void> => {
    setBusy(true);
    setError(null);
    try {
      onIn(await api.login(name.trim(), password));
    } catch (problem) {
      setError(problem instanceof ApiError ? said(problem) : NOT_REACHED);
      setBusy(false);
    }
  };

  return (
    <form
      className="login"
      onSubmit={(event) => {
        event.preventDefault();
        if (busy) return;
        if (name.trim() === "") setError("Write your name: the audit log says who did what.");
        else if (password === "") setError("Write the password.");
        else void logIn();
      }}
    >
      <Alert text={error} />
      <label>
        <span>Your name</span>
        <input
          type="text"
          name="name"
          autoComplete="username"
          maxLength={80}
          value={name}
          onChange={(event) => {
            setName(event.target.value);
          }}
        />
      </label>
      <label>
        <span>Password</span>
        <input
          type="password"
          name="password"
          autoComplete="current-password"
          value={password}
          onChange={(event) => {
            setPassword(event.target.value);
          }}
        />
      </label>
      <button type="submit" className="primary-button" aria-disabled={busy}>
        {busy ? "Logging in…" : "Log in"}
      </button>
      <p className="quiet">Or open the link that the command printed when it started.</p>
    </form>
  );
}

function said(problem: ApiError): string {
  const wait = problem.retryAfter;
  if (problem.status !== 429 || wait === null) return problem.message;
  return `${problem.message} Try again in ${Math.ceil(wait)} s.`;
}
