// One tab works at a time: two would show the same image twice.

function hold(name, options, lost) {
  return new Promise((held) => {
    navigator.locks.request(name, options, (lock) => {
      held(Boolean(lock));
      return lock && new Promise(() => {}); // for as long as the tab is open
    }).catch(lost); // another tab took over
  });
}

// Resolves when this tab may work.
//   ask(): resolves when the rater wants to go on here although another tab is open.
//   lost(): called when the rater went on in another tab.
export async function takeTurn(rater, ask, lost) {
  if (!navigator.locks) return; // no secure context: the server still counts answers once
  const name = `rahf-page/${rater}`;
  for (let tries = 0; tries < 5; tries++) { // a page that is loaded anew lets go late
    if (await hold(name, { ifAvailable: true }, lost)) return;
    await new Promise((go) => setTimeout(go, 100));
  }
  await ask();
  await hold(name, { steal: true }, lost);
}
