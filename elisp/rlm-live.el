;;; rlm-live.el --- Run, edit and fork with the code of a run  -*- lexical-binding: t; -*-

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

;; Every code block in the buffer of a run is live: C-c C-c runs it among
;; the run's variables, `rlm-live-edit' opens it to be changed first, and
;; from there it can also begin a fork.  C-c C-c goes through Org's own
;; hook, so that a saved transcript can do the same: put
;; `rlm-live-ctrl-c-ctrl-c' on `org-ctrl-c-ctrl-c-hook'.

;;; Code:

(require 'cl-lib)
(require 'org)
(require 'seq)
(require 'subr-x)
(require 'rlm-client)
(require 'rlm-code)
(require 'rlm-node)
(require 'rlm-run)
(require 'rlm-steer)

(declare-function rlm-durable-edit "rlm-durable" (run iteration &optional code))
(declare-function rlm-fork-run "rlm-durable" (run iteration &rest changes))
(declare-function rlm-resume-run "rlm-durable" (run &optional limits))

;;;; Blocks

(cl-defstruct (rlm-live-block (:constructor rlm-live-block--make) (:copier nil))
  "A block of code in a buffer."
  start                       ; of its first line
  after                       ; where the line after it begins
  text
  edited)                     ; whether it has taken the place of the one before it

(defconst rlm-live--begin "^[ \t]*#\\+begin_src python\\b.*\n"
  "Regexp for the first line of a block of code.")

(defconst rlm-live--end "^[ \t]*#\\+end_src[ \t]*$"
  "Regexp for the last line of a block of code.")

(defun rlm-live--block-here ()
  "Return the block of code that begins at point."
  (let ((case-fold-search t)
        (start (point)))
    (when (looking-at rlm-live--begin)
      (let ((text (match-end 0)))
        (goto-char text)
        (when (re-search-forward rlm-live--end nil t)
          (rlm-live-block--make
           :start start
           :after (min (point-max) (1+ (match-end 0)))
           :text (org-unescape-code-in-string
                  (buffer-substring-no-properties text (match-beginning 0)))
           :edited (save-excursion
                     (goto-char start)
                     (skip-chars-backward "\n")
                     (forward-line 0)
                     (looking-at-p "\\*Edited\\*"))))))))

(defun rlm-live-block-at-point ()
  "Return the block of code that point is in, or nil."
  (save-excursion
    (let ((case-fold-search t)
          (place (line-beginning-position)))
      (end-of-line)
      (when (re-search-backward "^[ \t]*#\\+begin_src\\b\\|^\\*+ " nil t)
        (let ((block (rlm-live--block-here)))
          (and block (< place (rlm-live-block-after block)) block))))))

(defun rlm-live--blocks (end)
  "Return the blocks of code between point and END that count, in their order.
Those in whose place an edited one ran don't."
  (let (found)
    (save-excursion
      (while (re-search-forward rlm-live--begin end t)
        (goto-char (match-beginning 0))
        (let ((block (rlm-live--block-here)))
          (if (null block)
              (goto-char end)
            (when (rlm-live-block-edited block)
              (pop found))
            (push block found)
            (goto-char (rlm-live-block-after block))))))
    (nreverse found)))

(defun rlm-live--heading (title)
  "Go up to the nearest heading that matches TITLE; return non-nil if there is one."
  (let ((case-fold-search nil) found)
    (and (ignore-errors (org-back-to-heading t))
         (progn
           (while (and (not (setq found (looking-at-p (concat "\\*+ " title))))
                       (org-up-heading-safe)))
           found))))

(defun rlm-live-iteration-blocks (iteration)
  "Return the blocks of code of the run's own ITERATION, in their order."
  (save-excursion
    (save-restriction
      (widen)
      (goto-char (point-min))
      (when (re-search-forward (format "^\\*\\* Iteration %d\\>" iteration) nil t)
        (forward-line)
        (rlm-live--blocks (save-excursion (outline-next-heading) (point)))))))

(defun rlm-live-iteration-code (iteration &optional number text)
  "Return the code that the model wrote in the run's own ITERATION.
With NUMBER, TEXT stands in the place of that block of it, counted from 0."
  (string-join
   (seq-map-indexed (lambda (block place)
                      (if (eql place number)
                          (concat (string-trim-right text "\n+") "\n")
                        (rlm-live-block-text block)))
                    (rlm-live-iteration-blocks iteration))
   "\n"))

;;;; Where a block runs

(defun rlm-live--child ()
  "Return the id of the child run whose text point is in, or nil."
  (save-excursion
    (and (rlm-live--heading "Child run [0-9]")
         (org-entry-get nil "RLM_NODE"))))

(defun rlm-live--node ()
  "Return the id of the run or child run whose variables code at point is for.
Those of a child run go with it; then those of the run are offered."
  (let ((child (rlm-live--child)))
    (cond ((null child) "0")
          ((and rlm-node-table (gethash child rlm-node-table)) child)
          ((y-or-n-p "The variables of this child run are gone; use those of the run itself? ")
           "0")
          (t (user-error "Not run")))))

(defun rlm-live--run ()
  "Return the run of this buffer, or the one that the transcript here is of."
  (or (rlm-run-in-buffer)
      (when-let ((id (rlm-live--transcript-id)))
        (let ((question (org-get-heading t t t t)))
          (rlm-run-in-buffer
           (save-window-excursion
             (rlm-client-open (list :runId id :question question))))))))

(defun rlm-live--transcript-id ()
  "Return the id of the run that the transcript at point is of, or nil."
  (and (derived-mode-p 'org-mode)
       (not (org-before-first-heading-p))
       (or (org-entry-get nil "RLM_RUN" t)
           (org-entry-get nil "RLM_FOLLOW_UP_OF" t))))

(defun rlm-live--ready (run)
  "Return RUN if code can run in it; offer to resume it if it was cut short."
  (cond ((null run) (user-error "No run is shown here"))
        ((null (rlm-run-id run)) (user-error "This question was not asked yet"))
        ((not (equal (rlm-run-status run) "interrupted")) run)
        ((y-or-n-p "The run was cut short, and its variables are gone; let it go on? ")
         (rlm-resume-run (rlm-run-summary run))
         (user-error "Going on; run your code when its variables are there"))
        (t (user-error "Not run"))))

;;;; Commands

(defun rlm-live-run-block ()
  "Run the code block at point, as it stands, among the variables of its run.
Its results appear in a heading of their own, /Your code/."
  (interactive)
  (let* ((block (or (rlm-live-block-at-point) (user-error "There is no code here")))
         (run (rlm-live--ready (rlm-live--run)))
         (node (rlm-live--node)))
    (rlm-live--exec run (rlm-live-block-text block) node t)))

(defun rlm-live--exec (run code node &optional stands)
  "Run CODE among the variables of NODE of RUN, and show where it appears.
STANDS is that of `rlm-exec-code'."
  (rlm-code-check code)
  (let ((buffer (rlm-steer-show-end run)))
    (rlm-exec-code run code node stands)
    (unless (get-buffer-window buffer t)
      (display-buffer buffer '(nil (inhibit-same-window . t))))))

(defun rlm-live-edit ()
  "Edit code: what waits for you, or else the code block at point.
\\<rlm-code-mode-map>What you have made of a block is run among the variables of the run with
\\[rlm-code-run], or begins a fork with \\[rlm-code-fork].  The run's own text stays as it is."
  (interactive)
  (let* ((block (rlm-live-block-at-point))
         (run (rlm-run-in-buffer))
         (wait (and run (rlm-live--wait run block))))
    (cond (wait (rlm-edit-code run wait))
          (block (rlm-live--edit-block block))
          (t (user-error "There is no code here")))))

(defun rlm-live--edit-block (block)
  "Open a buffer with the code of BLOCK, to be edited."
  (let* ((run (rlm-live--ready (rlm-live--run)))
         (origin (current-buffer))
         (here (copy-marker (rlm-live-block-start block)))
         (fork (rlm-live--forker run block)))
    (rlm-code-open
     (format "*rlm code: %s*" (or (org-entry-get nil "RLM_NODE") "0"))
     (rlm-live-block-text block) "runs it" "drops it"
     (lambda (code)
       (rlm-live--exec run code
                       (if (buffer-live-p origin)
                           (with-current-buffer origin
                             (save-excursion (goto-char here) (rlm-live--node)))
                         "0")))
     #'ignore fork)))

(defun rlm-live--forker (run block)
  "Return a function that forks RUN with the code that it is given for BLOCK.
That is nil where a run can't be forked: in a child run."
  (unless (rlm-live--child)
    (let* ((buffer (current-buffer))
           (own (save-excursion
                  (and (rlm-live--heading "Iteration [0-9]")
                       (looking-at "\\*\\* Iteration \\([0-9]+\\)")
                       (string-to-number (match-string 1)))))
           (blocks (and own (rlm-live-iteration-blocks own)))
           ;; Its place changes when something is drawn above it meanwhile, its number doesn't.
           (number (seq-position blocks block
                                 (lambda (one two)
                                   (= (rlm-live-block-start one) (rlm-live-block-start two))))))
      (lambda (text)
        (require 'rlm-durable)
        (let* ((iteration (or own (read-number "Fork at iteration: "
                                               (max 1 (rlm-run-iterations run)))))
               (all (and number (buffer-live-p buffer)
                         (with-current-buffer buffer
                           (rlm-live--with-others own number text (length blocks)))))
               (summary (rlm-run-summary run)))
          ;; Code of a fork is not asked about, and another block may never have run.
          (if all
              (rlm-durable-edit summary iteration all)
            (rlm-fork-run summary iteration :code text)))))))

(defun rlm-live--with-others (iteration number text count)
  "Return the code of ITERATION with TEXT as its block NUMBER, or nil.
That is nil where it has no other block.  It has had COUNT of them."
  (let ((now (length (rlm-live-iteration-blocks iteration))))
    (cond ((< now count) (user-error "The run is being drawn anew; try again"))
          ((> now 1) (rlm-live-iteration-code iteration number text)))))

;;;; C-c C-c

(defun rlm-live--wait (run block)
  "Return the code of RUN that waits for the user and is meant, or nil.
That is the one in BLOCK, at point; without a block, any."
  (if (null block)
      (and (rlm-run-waiting run) (rlm-steer-waiting run))
    (seq-find (lambda (wait)
                (let ((overlay (cadr (plist-get wait :overlays))))
                  (and (overlay-buffer overlay)
                       (<= (rlm-live-block-start block) (overlay-start overlay)
                           (rlm-live-block-after block)))))
              (rlm-run-waiting run))))

;;;###autoload
(defun rlm-live-ctrl-c-ctrl-c ()
  "Let the code run that waits for the user, or else the code block at point.
This is for `org-ctrl-c-ctrl-c-hook'; it returns nil where there is neither.
In a saved transcript, the block runs as it stands there."
  (let* ((run (rlm-run-in-buffer))
         (block (rlm-live-block-at-point))
         (wait (and run (rlm-live--wait run block))))
    (cond (wait (rlm-approve run wait current-prefix-arg) t)
          ((and block (or run (rlm-live--transcript-id)))
           (rlm-live-run-block)
           t))))

(defun rlm-run-code (&optional all)
  "Run the code block at point, or let code run that waits for you.
With a prefix argument, ALL, let all further code of the run go unasked.  Where
there is no code, do what Org does."
  (interactive "P")
  (org-ctrl-c-ctrl-c all))

(provide 'rlm-live)
;;; rlm-live.el ends here
