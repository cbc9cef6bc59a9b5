import { render } from "preact";
import { App } from "./app";
import { Boundary } from "./boundary";
import { showBrand } from "./brand";
import { returnedInWindow } from "./session";
import { noteWish } from "./wish";

const root = document.getElementById("app")!;

showBrand();

if (returnedInWindow()) {
  render(
    <main class="front">
      <h1>You are signed in again</h1>
      <p>You can close this window and go on in the other one.</p>
    </main>,
    root,
  );
} else {
  noteWish();
  render(
    <Boundary>
      <App />
    </Boundary>,
    root,
  );
}
