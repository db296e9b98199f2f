;;; rlm-draw-steering.el --- Draw what a person does to a run  -*- lexical-binding: t; -*-

;; This program is free software: you can redistribute it and/or modify
;; it under the terms of the GNU General Public License as published by
;; the Free Software Foundation, either version 3 of the License, or
;; (at your option) any later version.

;; This program is distributed in the hope that it will be useful,
;; but WITHOUT ANY WARRANTY; without even the implied warranty of
;; MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the
;; GNU General Public License for more details.

;; You should have received a copy of the GNU General Public License
;; along with this program.  If not, see <https://www.gnu.org/licenses/>.

;;; Commentary:

;; Events of steering: further questions, code that waits for approval, or
;; was edited, code of the user's own, notes and pauses.  What waits is shown
;; by overlays, so that nothing of it stays in the transcript.

;;; Code:

(require 'cl-lib)
(require 'subr-x)
(require 'rlm-org)
(require 'rlm-node)
(require 'rlm-run)
(require 'rlm-draw)
(require 'rlm-draw-run)
(require 'rlm-node-blocks)
(require 'rlm-node-parts)

(defface rlm-waiting
  '((t :inherit warning))
  "Face of what tells that code waits for you, or that a run is paused."
  :group 'rlm)

(defconst rlm-draw-steering--keys "C-c C-c runs it, e edits it, C-c C-k rejects it"
  "What can be done with code that waits.")

;;;; Further questions

(cl-defmethod rlm-draw-event ((_ (eql 'followUp)) event run)
  "Draw the further question of RUN that EVENT begins, under a heading of its own."
  (let ((question (plist-get event :question))
        (before (or (rlm-run-seconds run) 0)))
    (rlm-draw--note-models event run)
    (setf (rlm-run-asked run) question
          (rlm-run-limits run) (plist-get event :limits)
          (rlm-run-status run) "running"
          (rlm-run-doing run) "starting"
          (rlm-run-started run) (- (plist-get event :time) before)
          (rlm-run-seconds run) nil
          (rlm-run-reason run) nil
          (rlm-run-answer run) nil
          (rlm-run-typed run) nil
          (rlm-run-similar run) nil
          (rlm-run-evidence run) nil
          (rlm-run-provenance run) nil)
    (mapc #'rlm-node-release (hash-table-values rlm-node-table))
    (setq rlm-draw--iterations nil)
    (let* ((line (rlm-org-line question 200))
           (node (rlm-node-add "0" nil line)))
      (rlm-node-set
       node `(("RLM_FOLLOW_UP_OF" . ,(rlm-run-id run))
              ("RLM_STATUS" . "running")
              ("RLM_STARTED" . ,(format-time-string "[%F %a %T]" (plist-get event :time)))
              ("RLM_MODEL" . ,(rlm-run-model run))
              ("RLM_SUB_MODEL" . ,(rlm-run-sub-model run))))
      (unless (string= line question)
        (rlm-node-paragraph node question)))))

(cl-defmethod rlm-draw-event :around ((_ (eql 'runEnded)) event run)
  "Draw the end of RUN, EVENT; only its figures, where it had come to that end.
So it is after code that the user has run since."
  (rlm-draw-steering-forget run)
  (setf (rlm-run-paused run) nil)
  (if (not (equal (rlm-run-status run) (plist-get event :status)))
      (cl-call-next-method)
    (setf (rlm-run-subcalls run) (plist-get event :subcalls))
    (rlm-draw--note-usage run (plist-get event :usage))
    (rlm-node-set (rlm-draw--root) (rlm-draw--end-properties run))))

;;;; Code that waits

(cl-defmethod rlm-draw-event ((_ (eql 'approvalWanted)) event run)
  "Draw, for EVENT, that code of RUN waits for the user."
  (setf (rlm-run-doing run) "waiting for you")
  (let* ((id (plist-get event :node))
         (number (plist-get event :cell))
         (node (rlm-draw--node id))
         (cell (rlm-node-cell node number)))
    (setf (rlm-run-waiting run)
          (append (rlm-run-waiting run)
                  (list (list :node id :cell number :code (plist-get event :code)
                              :overlays (rlm-draw-steering--mark node cell)))))))

(defun rlm-draw-steering--mark (node cell)
  "Show at the heading of NODE, and after the code of CELL, that this waits.
Return the overlays."
  (save-excursion
    (list (rlm-draw-steering--say (progn (goto-char (rlm-node-start node))
                                         (line-end-position))
                                  "  [waits for you]")
          (rlm-draw-steering--say (progn (goto-char (rlm-cell-place cell))
                                         (skip-chars-backward "\n")
                                         (point))
                                  (format "\nThis code waits: %s." rlm-draw-steering--keys)))))

(defun rlm-draw-steering--say (place text)
  "Show TEXT at PLACE, an end of a line; return the overlay that does so.
It stands for the character before, since a string of its own would be hidden
behind a heading that is folded, and shown where text is that is folded."
  (let ((overlay (make-overlay (1- place) place)))
    (overlay-put overlay 'display
                 (concat (buffer-substring (1- place) place)
                         (propertize text 'face 'rlm-waiting)))
    overlay))

(defun rlm-draw-steering--decided (event run)
  "Note that the code of EVENT, a cell's, does not wait in RUN any more."
  (when-let ((wait (rlm-run-waiting-cell run (plist-get event :node) (plist-get event :cell))))
    (mapc #'delete-overlay (plist-get wait :overlays))
    (setf (rlm-run-waiting run) (remq wait (rlm-run-waiting run)))))

(defun rlm-draw-steering-forget (run &optional below)
  "Note that no code waits in RUN any more, or none BELOW a node."
  (dolist (wait (rlm-run-waiting run))
    (when (or (null below) (rlm-draw--at-or-below-p (plist-get wait :node) below))
      (rlm-draw-steering--decided wait run))))

(cl-defmethod rlm-draw-event :before ((_ (eql 'childDone)) event run)
  "Note in RUN that nothing of the child that ends with EVENT waits any more."
  (rlm-draw-steering-forget run (plist-get event :node)))

(cl-defmethod rlm-draw-event :before ((_ (eql 'runResumed)) _event run)
  "Note that what waited in RUN does so no more: it is asked about again."
  (rlm-draw-steering-forget run))

(cl-defmethod rlm-draw-event :before ((_ (eql 'cellStarted)) event run)
  "Draw how the cell of RUN in EVENT came to be: by the user, or edited."
  (rlm-draw-steering--decided event run)
  (cond ((eq (plist-get event :byUser) t)
         (let* ((id (plist-get event :node))
                (number (replace-regexp-in-string "\\`.*x" "" id)))
           (rlm-node-add id (rlm-draw--parent id) (concat "Your code " number))))
        ((eq (plist-get event :edited) t)
         (rlm-draw-steering--edited (rlm-draw--node (plist-get event :node)) event))))

(defun rlm-draw-steering--edited (node event)
  "Draw in NODE the code of EVENT, which has taken the place of the model's."
  (let* ((cell (rlm-node-cell node (plist-get event :cell)))
         (place (rlm-cell-place cell)))
    (rlm-node-insert node place (concat (rlm-node-fresh-line place) "*Edited*; this runs:\n"))
    (let ((block (rlm-block-open node place "#+begin_src python" "#+end_src"
                                 (rlm-org-block-filter))))
      (rlm-block-write node block (plist-get event :code))
      (rlm-block-close node block)
      (set-marker place (rlm-block-after block))
      (set-marker (rlm-block-after block) nil))))

(cl-defmethod rlm-draw-event :before ((_ (eql 'cellDone)) event run)
  "Note that the cell of RUN that EVENT ends does not wait any more."
  (rlm-draw-steering--decided event run))

(cl-defmethod rlm-draw-event :after ((_ (eql 'cellDone)) event _run)
  "Let go of the user's own code if it is that which EVENT ends."
  (when-let ((node (gethash (plist-get event :node) rlm-node-table)))
    (when (string-match-p "\\.x[0-9]+\\'" (rlm-node-id node))
      (rlm-draw--close-below node)
      (rlm-node-close node)
      (rlm-node-release node))))

;;;; Notes and pauses

(cl-defmethod rlm-draw-event ((_ (eql 'note)) event _run)
  "Draw a note to the model, EVENT."
  (rlm-draw--item (plist-get event :node) "Your note" (plist-get event :text)))

(cl-defmethod rlm-draw-event ((_ (eql 'paused)) event run)
  "Note in RUN whether it is paused, according to EVENT."
  (let ((paused (eq (plist-get event :paused) t)))
    (setf (rlm-run-paused run) paused)
    (rlm-draw--item (plist-get event :node) (if paused "Paused" "Resumed")
                    (format-time-string "%T" (plist-get event :time)))))

;;;; Attention

(defun rlm-draw-attention (run)
  "Return what RUN wants of the user, for its header line, or nil."
  (let ((count (length (rlm-run-waiting run))))
    (cond ((> count 0)
           (propertize (format "%s: %s"
                               (if (= count 1) "code waits for you"
                                 (format "%d pieces of code wait for you" count))
                               rlm-draw-steering--keys)
                       'face 'rlm-waiting))
          ((rlm-run-paused run)
           (propertize "paused, P goes on" 'face 'rlm-waiting)))))

(defun rlm-draw-mode-line ()
  "Return the mode line's words on the current buffer's run."
  (cond ((null rlm-run-current) "")
        ((rlm-run-waiting rlm-run-current) (propertize " waits" 'face 'rlm-waiting))
        ((rlm-run-paused rlm-run-current) (propertize " paused" 'face 'rlm-waiting))
        (t "")))

(provide 'rlm-draw-steering)
;;; rlm-draw-steering.el ends here
