/**
 * Keeps React working on a page that somebody else changes as well: a browser's translation, which replaces text nodes by
 * <font> elements, and extensions that wrap or move elements.
 *
 * React keeps references to the nodes that it has made. `removeChild` and `insertBefore` throw when such a node has
 * another parent by now, and one such error ends the whole page (https://github.com/facebook/react/issues/11538). Here
 * both do what was meant instead: the node goes away from wherever it is, and the new one comes before the wrapper.
 *
 * That keeps the page alive; it can't remove what stands in the place of a text node that was replaced. Therefore every
 * text in the components is the only child of an element of its own: React then sets the text of that element, whatever
 * is in it, and removes the element as a whole. `foreignDom.test.tsx` holds all screens to that.
 */

type NodePrototype = Pick<Node, "removeChild" | "insertBefore">;

export function tolerateForeignChanges(prototype: NodePrototype): void {
  const { removeChild, insertBefore } = prototype;

  prototype.removeChild = function <T extends Node>(this: Node, child: T): T {
    if (child.parentNode === this) return removeChild.call(this, child) as T;
    if (child.parentNode !== null) removeChild.call(child.parentNode, child);
    return child;
  };

  prototype.insertBefore = function <T extends Node>(this: Node, node: T, before: Node | null): T {
    return insertBefore.call(this, node, childThatHolds(this, before)) as T;
  };
}

/** The child of `parent` that is or holds `node`; null (the end) where there is none. */
function childThatHolds(parent: Node, node: Node | null): Node | null {
  let child = node;
  while (child !== null && child.parentNode !== parent) child = child.parentNode;
  return child;
}
