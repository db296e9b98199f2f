;;; rlm-collect-test.el --- Tests of collecting  -*- lexical-binding: t; -*-

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

;; What is collected from each place, how it is shown, pruned, saved and
;; asked about.  Keys are pressed where a person would press them.

;;; Code:

(require 'rlm-test-lib)
(require 'rlm-add)
(require 'rlm-collection-list)
(require 'rlm-collection-save)
(require 'rlm-url)
(require 'bookmark)
(require 'compile)
(require 'dired)
(require 'eww)
(require 'grep)
(require 'ibuffer)
(require 'info)
(require 'org)
(require 'xref)

(defmacro rlm-test-in-note (&rest body)
  "Evaluate BODY in a buffer \"*a note*\" that is killed after it."
  (declare (indent 0) (debug t))
  `(with-current-buffer (get-buffer-create "*a note*")
     (prog1 (progn ,@body)
       (kill-buffer "*a note*"))))

(defmacro rlm-test-collecting (&rest body)
  "Evaluate BODY as the text of a test in which regions are active."
  (declare (indent 0) (debug t))
  `(rlm-test-with
     (let ((transient-mark-mode t))
       ,@body)))

(defun rlm-test-collected ()
  "Return what is collected, as a list of kinds and names without directories."
  (mapcar (lambda (item)
            (list (rlm-item-kind item)
                  (file-name-nondirectory (directory-file-name (rlm-item-name item)))))
          (rlm-collection-items rlm-collection-current)))

(defun rlm-test-whys ()
  "Return why each thing is collected."
  (mapcar #'rlm-item-why (rlm-collection-items rlm-collection-current)))

(defun rlm-test-sources ()
  "Return the name, the origin, the first line and the text of each source.
They are those of the collection; directories give nil for all but the name."
  (let ((context (rlm-collection-context)))
    (unwind-protect
        (mapcar (lambda (source)
                  (list (plist-get source :name) (plist-get source :origin)
                        (plist-get source :firstLine)
                        (and (plist-get source :path)
                             (rlm-test-text (plist-get source :path)))))
                (rlm-context-sources context))
      (rlm-context-release context))))

(defun rlm-test-grep-lines (tree)
  "Return the lines of a search for the word boats below TREE."
  (concat "docs/boats.txt:1:Boats are painted green.\n"
          "docs/boats.txt:2:They leave with the boats.\n"
          "harbour.txt:1:The harbour has boats.\n"
          "gone.txt:1:No boats.\n"
          (ignore tree)))

(defun rlm-test-small-tree ()
  "Make a small tree in the test's directory and return its name."
  (rlm-test-file "tree/harbour.txt" "The harbour is old.\nThe keeper is called Odalys.\n")
  (rlm-test-file "tree/docs/boats.txt" "Boats are painted green.\nThey leave at dawn.\n")
  (rlm-test-file "tree/"))

;;;; What is meant

(ert-deftest rlm-collect-region-follows-edits ()
  (rlm-test-collecting
    (with-current-buffer (find-file-noselect (rlm-test-file "a.txt" "one\ntwo\nthree\n"))
      (rlm-test-keys "C-n C-SPC C-n C-c r +")
      (should-not (region-active-p))
      (should (equal '((part "a.txt")) (rlm-test-collected)))
      (should (equal '("region") (rlm-test-whys)))
      (goto-char (point-min))
      (insert "zero\n")
      (search-forward "tw")
      (insert "eet-tw")
      ;; What is written on after it was not selected.
      (forward-line)
      (insert "private\n")
      (should (equal `(("a.txt" ,buffer-file-name 3 "tweet-two\n")) (rlm-test-sources)))
      ;; Killed, it is what it was last.
      (set-buffer-modified-p nil)
      (kill-buffer))
    (should (equal '((text "a.txt")) (rlm-test-collected)))
    (should (equal `(("a.txt" ,(rlm-test-file "a.txt") 3 "tweet-two\n")) (rlm-test-sources)))))

(ert-deftest rlm-collect-buffer-narrowing-and-indirect-buffer ()
  (rlm-test-collecting
    (with-current-buffer (find-file-noselect (rlm-test-file "a.txt" "one\ntwo\nthree\n"))
      (rlm-test-keys "C-c r +")
      (should (equal '((file "a.txt")) (rlm-test-collected)))
      ;; Once is enough.
      (rlm-test-keys "C-c r +")
      (should (equal '((file "a.txt")) (rlm-test-collected)))
      (narrow-to-region 5 9)
      (rlm-test-keys "C-c r +")
      (should (equal '((file "a.txt") (part "a.txt")) (rlm-test-collected)))
      (should (equal '("buffer" "buffer, narrowed") (rlm-test-whys)))
      (let ((item (cadr (rlm-collection-items rlm-collection-current))))
        (should (equal '(2 . 2) (rlm-item-lines item)))
        (should (equal "buffer, narrowed, line 2" (rlm-collection-list--why item))))
      (widen)
      (with-current-buffer (make-indirect-buffer (current-buffer) "indirect")
        (narrow-to-region 1 5)
        (rlm-test-keys "C-c r +")
        (kill-buffer))
      (should (equal '("two\n" "one\n") (mapcar #'cadddr (cdr (rlm-test-sources))))))))

(ert-deftest rlm-collect-a-buffer-that-no-file-holds ()
  (rlm-test-collecting
    (with-current-buffer (generate-new-buffer "*a note*")
      (insert "first")
      (rlm-test-keys "C-c r +")
      (insert " and second")
      (goto-char (point-min))
      (insert "before, ")
      (should (equal '(("a-note" "rlm-buffer:*a note*" 1 "before, first and second"))
                     (rlm-test-sources)))
      (should (equal "buffer" (rlm-collection-list--why
                               (car (rlm-collection-items rlm-collection-current))))))
    (with-temp-buffer
      (should-error (rlm-add) :type 'user-error))))

(ert-deftest rlm-collect-dired-marks ()
  (rlm-test-collecting
    (let ((tree (rlm-test-small-tree)))
      (with-current-buffer (dired-noselect tree)
        (dired-goto-file (concat tree "docs"))
        (rlm-test-keys "C-c r +")
        (should (equal '((directory "docs")) (rlm-test-collected)))
        (dired-goto-file (concat tree "docs"))
        (rlm-test-keys "m")
        (dired-goto-file (concat tree "harbour.txt"))
        (rlm-test-keys "m C-c r +")
        (should (equal '((directory "docs") (file "harbour.txt")) (rlm-test-collected)))
        (should (equal '("Dired" "marked in Dired") (rlm-test-whys)))
        ;; The line of the directory itself stands for it, and not for the listing's text.
        (rlm-clear-collection)
        (rlm-test-keys "U")
        (goto-char (point-min))
        (re-search-forward " \\.$")
        (rlm-test-keys "C-c r +")
        (should (equal '((directory "tree")) (rlm-test-collected)))))))

(ert-deftest rlm-collect-ibuffer-marks ()
  (rlm-test-collecting
    (find-file-noselect (rlm-test-file "one.txt" "one\n"))
    (with-current-buffer (get-buffer-create "a note")
      (insert "two"))
    (save-window-excursion
      (ibuffer nil "*test ibuffer*" '((predicate . (member (buffer-name) '("one.txt" "a note")))))
      (with-current-buffer "*test ibuffer*"
        (ibuffer-jump-to-buffer "one.txt")
        (rlm-test-keys "C-c r +")
        (should (equal '((file "one.txt")) (rlm-test-collected)))
        (ibuffer-jump-to-buffer "a note")
        (rlm-test-keys "m C-c r +")))
    (should (equal '((file "one.txt") (part "a note")) (rlm-test-collected)))
    (should (equal '("Ibuffer" "marked in Ibuffer") (rlm-test-whys)))))

(ert-deftest rlm-collect-ibuffer-an-empty-buffer-is-not-the-list ()
  (rlm-test-collecting
    (get-buffer-create "an empty one")
    (save-window-excursion
      (ibuffer nil "*test ibuffer*" '((predicate . (equal (buffer-name) "an empty one"))))
      (with-current-buffer "*test ibuffer*"
        (ibuffer-jump-to-buffer "an empty one")
        (should-error (rlm-test-keys "C-c r +") :type 'user-error)))
    (should (rlm-collection-empty-p))))

(ert-deftest rlm-collect-project-by-prefix ()
  (rlm-test-collecting
    (let ((tree (rlm-test-small-tree)))
      (make-directory (concat tree ".git"))
      (let ((default-directory tree))
        (should (equal 0 (call-process "git" nil nil nil "init" "-q" tree))))
      (with-current-buffer (find-file-noselect (concat tree "harbour.txt"))
        (rlm-test-keys "C-u C-c r +"))
      (should (equal '((directory "tree")) (rlm-test-collected)))
      (should (equal '("project") (rlm-test-whys))))))

(ert-deftest rlm-collect-the-files-that-grep-has-found ()
  (rlm-test-collecting
    (let ((tree (rlm-test-small-tree)))
      (with-current-buffer (get-buffer-create "*grep*")
        (setq default-directory tree)
        (insert "-*- mode: grep -*-\n\n" (rlm-test-grep-lines tree))
        (grep-mode)
        (rlm-test-keys "M-< C-c r +"))
      (should (equal '((file "boats.txt") (file "harbour.txt")) (rlm-test-collected)))
      (should (equal '("2 matches in *grep*" "1 match in *grep*") (rlm-test-whys)))
      ;; Both are named by their place in the tree.
      (should (equal '("docs/boats.txt" "harbour.txt") (mapcar #'car (rlm-test-sources)))))))

(ert-deftest rlm-collect-compilation-output-and-its-files ()
  (rlm-test-collecting
    (let ((tree (rlm-test-small-tree)))
      (with-current-buffer (get-buffer-create "*compilation*")
        (setq default-directory tree)
        (insert "make: Entering directory '" tree "docs'\n"
                "boats.txt:2: error: no such boat\n"
                "make: Leaving directory '" tree "docs'\n"
                "harbour.txt:1:3: warning: harbour is old\n")
        (compilation-mode)
        (rlm-test-keys "C-c r +")
        (should (equal '((text "*compilation*") (file "boats.txt") (file "harbour.txt"))
                       (rlm-test-collected)))
        ;; The next compilation doesn't change what is collected.
        (let ((inhibit-read-only t))
          (erase-buffer)))
      (should (string-match-p "no such boat" (nth 3 (car (rlm-test-sources))))))))

(ert-deftest rlm-collect-xref-and-occur ()
  (rlm-test-collecting
    (let* ((tree (rlm-test-small-tree))
           (note (get-buffer-create "a note")))
      (with-current-buffer note
        (insert "boats\n"))
      (save-window-excursion
        (xref--show-xref-buffer
         (lambda ()
           (list (xref-make "Boats" (xref-make-file-location (concat tree "docs/boats.txt") 1 0))
                 (xref-make "boats" (xref-make-buffer-location note 1))))
         nil)
        (with-current-buffer xref-buffer-name
          (rlm-test-keys "C-c r +")))
      (should (equal '((file "boats.txt") (part "a note")) (rlm-test-collected)))
      (should (equal (list (format "1 match in %s" xref-buffer-name)
                           (format "1 match in %s" xref-buffer-name))
                     (rlm-test-whys)))
      (rlm-clear-collection)
      (with-current-buffer (find-file-noselect (concat tree "harbour.txt"))
        (save-window-excursion
          (multi-occur (list (current-buffer) note) "boats\\|is"))
        (with-current-buffer "*Occur*"
          (rlm-test-keys "C-c r +")))
      (should (seq-set-equal-p '((file "harbour.txt") (part "a note")) (rlm-test-collected)))
      (should (seq-set-equal-p '("2 matches in *Occur*" "1 match in *Occur*")
                               (rlm-test-whys))))))

(ert-deftest rlm-collect-an-org-subtree ()
  (rlm-test-collecting
    (with-current-buffer (find-file-noselect
                          (rlm-test-file "a.org" "* One\ntext\n** TODO Two :tag:\nmore\n* Three\n"))
      (goto-char (point-min))
      (search-forward "Two")
      (rlm-test-keys "C-c r +")
      (should (equal '("subtree Two") (rlm-test-whys)))
      (should (equal `(("a.org" ,buffer-file-name 3 "** TODO Two :tag:\nmore\n"))
                     (rlm-test-sources)))
      ;; Elsewhere it is the buffer that is meant.
      (forward-line 1)
      (rlm-test-keys "C-c r +")
      (should (equal '((part "a.org") (file "a.org")) (rlm-test-collected))))))

(defun rlm-test-manual ()
  "Make a manual of Info that is split into two files, and return its name."
  (rlm-test-file "small.info-1" "This is small.info.
\^_
File: small.info,  Node: Top,  Next: Boats,  Up: (dir)

Top of the small manual.

* Menu:

* Boats::
")
  (rlm-test-file "small.info-2" "\^_
File: small.info,  Node: Boats,  Prev: Top,  Up: Top

Boats are painted green.
")
  (let* ((one (rlm-test-text (rlm-test-file "small.info-1")))
         (header (string-match "\^_" one)))
    (rlm-test-file "small.info"
                   (format "This is small.info.
\^_
Indirect:
small.info-1: %d
small.info-2: %d
\^_
Tag Table:
\(Indirect)
Node: Top\^?%d
Node: Boats\^?%d
\^_
End Tag Table
" header (length one) header (length one)))))

(ert-deftest rlm-collect-info-node-and-manual ()
  (rlm-test-collecting
    (save-window-excursion
      (info (rlm-test-manual) "*info test*")
      (with-current-buffer "*info test*"
        (Info-goto-node "Boats")
        (rlm-test-keys "C-c r +")
        (rlm-test-keys "C-u C-c r +")
        (Info-goto-node "Top")))
    (should (equal '((text "(small)Boats") (text "(small)")) (rlm-test-collected)))
    (should (equal '("Info node" "Info manual") (rlm-test-whys)))
    (pcase-let ((`((,_ ,origin ,_ ,node) (,_ ,_ ,_ ,manual)) (rlm-test-sources)))
      (should (equal "rlm-buffer:(small)Boats" origin))
      (should (string-match-p "painted green" node))
      (should-not (string-match-p "Top of the" node))
      (should (string-match-p "Top of the small manual\\(?:.\\|\n\\)*painted green" manual))
      (should-not (string-match-p "Tag Table\\|\^_" manual)))))

(ert-deftest rlm-collect-bookmarks ()
  (rlm-test-collecting
    (let* ((tree (rlm-test-small-tree))
           (bookmark-default-file (rlm-test-file "bookmarks"))
           (bookmark-save-flag nil)
           (bookmark-alist
            `(("boats" (filename . ,(concat tree "docs/boats.txt")) (position . 1))
              ("the node" (filename . ,(rlm-test-manual)) (info-node . "Boats")
               (position . 1) (handler . Info-bookmark-jump))
              ("tree" (filename . ,tree) (position . 1)))))
      (save-window-excursion
        (bookmark-bmenu-list)
        (with-current-buffer bookmark-bmenu-buffer
          (goto-char (point-min))
          (search-forward "boats")
          (rlm-test-keys "C-c r +")
          (should (equal '((file "boats.txt")) (rlm-test-collected)))
          (goto-char (point-min))
          (search-forward "the node")
          (rlm-test-keys "m")
          (goto-char (point-min))
          (re-search-forward "^ +tree ")
          (rlm-test-keys "m C-c r +")))
      (should (equal '((file "boats.txt") (text "(small)Boats") (directory "tree"))
                     (rlm-test-collected)))
      (should (equal '("bookmark boats" "bookmark the node" "bookmark tree") (rlm-test-whys)))
      (rlm-clear-collection)
      (should-error (rlm-test-keys "M-x rlm-add-bookmark RET RET") :type 'user-error)
      (rlm-test-keys "M-x rlm-add-bookmark RET boats RET")
      (should (equal '((file "boats.txt")) (rlm-test-collected))))))

;;;; Pages

(defun rlm-test-serve (answer function)
  "Call FUNCTION with the address of a server that says ANSWER, nil: nothing."
  (let ((server (make-network-process
                 :name "rlm test page" :server t :host "127.0.0.1" :service t :family 'ipv4
                 :coding 'binary :noquery t
                 :filter (lambda (process _)
                           (when answer
                             (process-send-string process answer)
                             (delete-process process))))))
    (unwind-protect
        (funcall function (format "http://127.0.0.1:%d/page"
                                  (process-contact server :service)))
      (delete-process server)
      (dolist (process (process-list))
        (when (string-prefix-p "rlm test page" (process-name process))
          (delete-process process))))))

(defun rlm-test-page-answer (type body &optional status)
  "Return an answer of a web server: BODY of TYPE, with STATUS."
  (let ((bytes (encode-coding-string body (if (string-match-p "8859" type) 'latin-1 'utf-8))))
    (format "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"
            (or status "200 OK") type (length bytes) bytes)))

(ert-deftest rlm-collect-a-page-by-its-address ()
  (rlm-test-collecting
    (rlm-test-serve
     (rlm-test-page-answer "text/html; charset=utf-8" "<html><head><title>Boats\n and ß</title></head>
<body><h1>Boats</h1><p>They are <b>green</b>, says Jürgen.</p><script>no()</script></body></html>")
     (lambda (url)
       (let ((buffers (buffer-list)))
         (rlm-test-keys "M-x rlm-add-url RET" (mapconcat #'string url " ") "RET")
         (rlm-test-wait (lambda () (not (rlm-collection-empty-p))))
         (should (equal (list url) (rlm-test-whys)))
         (pcase-let ((`((,name ,origin 1 ,text)) (rlm-test-sources)))
           (should (equal "Boats-and-ß" name))
           (should (equal (concat "rlm-buffer:" url) origin))
           (should (string-match-p "They are green, says Jürgen\\." text))
           (should-not (string-match-p "no()\\|HTTP" text)))
         (should-not (seq-difference (seq-filter (lambda (buffer)
                                                   (string-match-p "127.0.0.1" (buffer-name buffer)))
                                                 (buffer-list))
                                     buffers)))))))

(ert-deftest rlm-collect-plain-text-in-its-charset ()
  (rlm-test-collecting
    (rlm-test-serve (rlm-test-page-answer "text/plain; charset=iso-8859-1" "Grün\r\nund rot\r\n")
                    (lambda (url)
                      (rlm-add-url url)
                      (rlm-test-wait (lambda () (not (rlm-collection-empty-p))))
                      (should (equal "Grün\nund rot\n" (nth 3 (car (rlm-test-sources)))))))))

(ert-deftest rlm-collect-what-is-no-page-says-why ()
  (rlm-test-collecting
    (dolist (case `((,(rlm-test-page-answer "text/html" "gone" "404 Not Found") "was not added: .*404")
                    (,(rlm-test-page-answer "application/pdf" "%PDF") "It is application/pdf, not text")
                    (,(rlm-test-page-answer "text/plain" " \n") "There is no text in it")
                    (nil "did not answer within 0.3 seconds")))
      (let ((said nil) (rlm-url-timeout (if (car case) 30 0.3)))
        (setq said
              (rlm-test-messages
                (rlm-test-serve (car case)
                                (lambda (url)
                                  (rlm-add-url url)
                                  (rlm-test-wait
                                   (lambda () (seq-find (lambda (text)
                                                          (string-match-p (cadr case) text))
                                                        said)))))))
        (should (= 1 (seq-count (lambda (text) (string-match-p "not added\\|did not" text)) said)))
        (should (rlm-collection-empty-p))))
    (should-error (rlm-add-url "ftp://somewhere/x") :type 'user-error)
    ;; Where nobody listens.
    (let ((said (rlm-test-messages
                  (rlm-test-serve nil (lambda (url)
                                        (delete-process "rlm test page")
                                        (rlm-add-url url)
                                        (rlm-test-wait (lambda () (cdr said))))))))
      (should (rlm-collection-empty-p))
      (should (seq-find (lambda (text) (string-match-p "added: its server can.t be reached\\'" text))
                        said)))))

(ert-deftest rlm-collect-a-page-of-eww ()
  (rlm-test-collecting
    (with-temp-buffer
      (eww-mode)
      (let ((inhibit-read-only t))
        (insert "Boats are green.\n"))
      (setq eww-data '(:url "http://example.org/boats" :title "All boats"))
      (rlm-test-keys "C-c r +"))
    (should (equal '(("All-boats" "rlm-buffer:http://example.org/boats" 1 "Boats are green.\n"))
                   (rlm-test-sources)))
    (should (equal '("http://example.org/boats") (rlm-test-whys)))))

;;;; Asking

(ert-deftest rlm-collect-ask-about-all-of-it ()
  (rlm-test-collecting
    (let ((tree (rlm-test-small-tree)))
      (rlm-add-files (list (concat tree "docs")))
      (with-current-buffer (find-file-noselect (concat tree "docs/boats.txt"))
        (goto-char (point-max))
        (insert "Boats of the harbour master are blue, unsaved.\n"))
      (rlm-test-in-note
        (insert "nothing here\nThe boats of the harbour master are old.\n")
        (rlm-add)
        (setq rlm-confirm nil)
        (rlm-test-keys "C-c r a" (mapconcat (lambda (c) (if (eq c ?\s) "SPC" (string c)))
                                            "What are the boats of the harbour master?" " ")
                       "RET"))
      (let* ((buffer (car (seq-filter #'rlm-run-in-buffer (buffer-list))))
             (run (rlm-test-wait-end buffer)))
        (should (equal "done" (rlm-run-status run)))
        (should (equal "What are the boats of the harbour master?" (rlm-run-question run)))
        (let ((places (mapcar (lambda (place) (list (nth 0 place) (nth 1 place)))
                              (rlm-run-evidence run))))
          (should (member (list (concat tree "docs/boats.txt") 3) places))
          (should (member (list "rlm-buffer:*a note*" 2) places)))
        ;; The run's own copies are gone, what is collected stays.
        (should (equal '((directory "docs") (text "*a note*")) (rlm-test-collected)))
        (rlm-clear-collection)
        (should (directory-empty-p temporary-file-directory))))))

(ert-deftest rlm-collect-nothing-collected-changes-nothing ()
  (rlm-test-collecting
    (should-error (call-interactively #'rlm-ask-collection) :type 'user-error)
    (with-temp-buffer
      (setq default-directory rlm-test-directory)
      (insert "text")
      (should (eq #'rlm-ask-buffer (rlm-ask--command)))
      (rlm-add)
      (should (eq #'rlm-ask-collection (rlm-ask--command)))
      (rlm-test-keys "C-x h")
      (should (eq #'rlm-ask-region (rlm-ask--command)))
      (deactivate-mark)
      (rlm-clear-collection)
      (should (eq #'rlm-ask-buffer (rlm-ask--command))))))

(ert-deftest rlm-collect-evidence-in-nodes-and-pages-is-visited ()
  (rlm-test-collecting
    (let ((node (concat "(" (rlm-test-manual) ")Boats"))
          visited)
      (rlm-add-items (list (rlm-item-of-text "The keeper is called Ulla.\n" "node"
                                             (concat "rlm-buffer:" node) "Info node")
                           (rlm-item-of-text "The keeper is called Imre.\n" "page"
                                             "rlm-buffer:https://example.org/" "page")))
      (let ((buffer (rlm-ask-collection "What is the keeper called?")))
        (rlm-test-wait-end buffer)
        (with-current-buffer buffer
          (goto-char (point-max))
          (re-search-backward "^- page:1")
          (cl-letf (((symbol-function 'browse-url) (lambda (url &rest _) (setq visited url))))
            (rlm-trajectory-follow-link))
          (should (equal "https://example.org/" visited))
          (re-search-backward "^- node:1")
          (save-window-excursion
            (switch-to-buffer buffer)
            (rlm-trajectory-follow-link)
            (should (derived-mode-p 'Info-mode))
            (should (equal "Boats" Info-current-node))))))))

;;;; Saved collections

(ert-deftest rlm-collect-save-and-load ()
  (rlm-test-collecting
    (let ((tree (rlm-test-small-tree))
          (odd "Grüße \x3fff80\x3fffff \"quoted\" \\ \u2028 \x0 end\n"))
      (rlm-add-files (list (concat tree "harbour.txt") (concat tree "docs")))
      (rlm-test-in-note
        (insert "first\n" odd)
        (rlm-test-keys "C-SPC C-p C-c r +")
        (rlm-test-keys "M-x rlm-save-collection RET o l d / s t u f f RET"))
      (should (equal '("old/stuff") (rlm-collection-names)))
      (let ((file (rlm-collection--file "old/stuff")))
        (should (= #o600 (file-modes file)))
        (should (= #o700 (file-modes rlm-collection-directory)))
        (should (equal (list (file-name-nondirectory file))
                       (directory-files rlm-collection-directory nil "[^.]"))))
      (rlm-clear-collection)
      (should (rlm-collection-empty-p))
      (rlm-test-keys "M-x rlm-load-collection RET old TAB RET")
      (should (equal '((file "harbour.txt") (directory "docs") (text "*a note*"))
                     (rlm-test-collected)))
      (should (equal "collection old/stuff" (rlm-collection-label)))
      (pcase-let ((`(,_ ,_ (,name ,origin ,line ,_)) (rlm-test-sources)))
        (should (equal '("a-note" "rlm-buffer:*a note*" 2) (list name origin line))))
      (should (equal odd (rlm-item-text (nth 2 (rlm-collection-items rlm-collection-current)))))
      (rlm-test-keys "M-x rlm-delete-collection RET old TAB RET y")
      (should-not (rlm-collection-names))
      (should (= 3 (length (rlm-test-collected)))))))

(ert-deftest rlm-collect-what-is-not-saved-is-not-forgotten ()
  (rlm-test-collecting
    (rlm-test-in-note
      (insert "text")
      (rlm-add)
      (should-error (rlm-test-keys "M-x rlm-clear-collection RET n"))
      (should-not (rlm-collection-empty-p))
      (rlm-save-collection "one")
      (rlm-test-keys "M-x rlm-clear-collection RET")
      (should (rlm-collection-empty-p))
      ;; Another of the same name takes its place only if one agrees.
      (insert " more")
      (rlm-add)
      (should-error (rlm-test-keys "M-x rlm-save-collection RET one RET n"))
      (should-error (rlm-test-keys "M-x rlm-load-collection RET one RET n"))
      (rlm-test-keys "M-x rlm-load-collection RET one RET y")
      (should (equal "text" (nth 3 (car (rlm-test-sources))))))))

(ert-deftest rlm-collect-what-was-saved-and-deleted-is-not-forgotten ()
  (rlm-test-collecting
    (rlm-test-in-note
      (insert "text")
      (rlm-add)
      (rlm-test-keys "M-x rlm-save-collection RET o n e ? RET")
      (should-error (rlm-test-keys "M-x rlm-delete-collection RET RET") :type 'user-error)
      (rlm-test-keys "M-x rlm-delete-collection RET one TAB RET y")
      (should-not (rlm-collection-names))
      (should-error (rlm-test-keys "M-x rlm-clear-collection RET n"))
      (should-not (rlm-collection-empty-p)))))

(ert-deftest rlm-collect-odd-names-of-collections ()
  (rlm-test-collecting
    (rlm-test-in-note
      (insert "text")
      (rlm-add)
      (dolist (name '(".emacs" "..." "#a#" "Größe"))
        (rlm-save-collection name)
        (should (member name (rlm-collection-names)))
        (rlm-load-collection name)
        (should (equal name (rlm-collection-name rlm-collection-current))))
      (dolist (name (list (make-string 240 ?x) (make-string 81 ?ж)))
        (should-error (rlm-save-collection name) :type 'user-error)
        (should-not (member name (rlm-collection-names)))))))

(ert-deftest rlm-collect-a-file-that-cannot-be-written-stays-as-it-was ()
  (rlm-test-collecting
    (rlm-test-in-note
      (insert "text")
      (rlm-add)
      (rlm-save-collection "one")
      (let ((before (rlm-test-text (rlm-collection--file "one"))))
        (insert " more")
        (cl-letf (((symbol-function 'rename-file)
                   (lambda (&rest _) (signal 'file-error '("Disk full")))))
          (should-error (rlm-save-collection "one") :type 'file-error))
        (should (equal before (rlm-test-text (rlm-collection--file "one"))))
        (should (= 1 (length (directory-files rlm-collection-directory nil "[^.]")))))
      (rlm-test-file "collections/one.eld" "(:version 1 :items (")
      (should-error (rlm-load-collection "one") :type 'user-error)
      (should-not (rlm-collection-empty-p)))))

;;;; The list

(defmacro rlm-test-in-list (&rest body)
  "Evaluate BODY in the list of what is collected, as shown in a window."
  (declare (indent 0) (debug t))
  `(progn
     (rlm-context)
     (with-current-buffer rlm-collection-list--buffer
       ,@body)))

(defun rlm-test-list-marks ()
  "Return the rows of the list, each a cons of its mark and the base of its name."
  (let (rows)
    (goto-char (point-min))
    (while (tabulated-list-get-id)
      (push (cons (char-after) (file-name-base (rlm-item-file (tabulated-list-get-id)))) rows)
      (forward-line))
    (nreverse rows)))

(defun rlm-test-foot-lines ()
  "Return what stands below the rows of the list, as lines."
  (split-string (mapconcat (lambda (overlay) (or (overlay-get overlay 'after-string) ""))
                           (overlays-in (point-min) (point-max)) "")
                "\n"))

(defun rlm-test-foot ()
  "Return what stands below the rows of the list, as one line."
  (mapconcat #'string-trim (rlm-test-foot-lines) " "))

(defun rlm-test-wait-foot (regexp)
  "Wait until what stands below the rows of the list matches REGEXP."
  (rlm-test-wait (lambda () (string-match-p regexp (rlm-test-foot)))))

(defun rlm-test-list-row (text)
  "Go to the row that holds TEXT."
  (goto-char (point-min))
  (search-forward text)
  (beginning-of-line))

(ert-deftest rlm-collect-list-shows-size-tokens-why-and-cost ()
  (rlm-test-collecting
    (let ((tree (rlm-test-small-tree)))
      (rlm-add-files (list (concat tree "harbour.txt") tree))
      (with-temp-buffer
        (insert "one\ntwo\nthree\n")
        (rename-buffer "a note")
        (narrow-to-region 5 14)
        (rlm-add)
        (rlm-test-in-list
          (rlm-test-wait-foot "In all: 3 files, .*; offline/extractive; free")
          (rlm-test-wait-text (current-buffer) "tree/ +94 bytes +23 +chosen, 2 files$")
          (let ((text (buffer-string)))
            (should (string-match-p "harbour.txt +49 bytes +12 +chosen$" text))
            (should (string-match-p "a note +9 bytes +2 +buffer, narrowed, lines 2-3$" text)))
          (should (directory-empty-p temporary-file-directory))
          ;; By size: what is largest is last.
          (rlm-test-list-row "a note")
          (move-to-column 42)
          (rlm-test-keys "S")
          (should (< (progn (rlm-test-list-row "a note") (point))
                     (progn (rlm-test-list-row "harbour") (point))
                     (progn (rlm-test-list-row "tree/ ") (point))))
          ;; Where the marks are, by name.
          (rlm-test-list-row "harbour")
          (beginning-of-line)
          (rlm-test-keys "S")
          (should (equal "Name" (car tabulated-list-sort-key)))
          ;; What stands below the rows stays there.
          (should (string-match-p "In all: 3 files" (rlm-test-foot))))))))

(ert-deftest rlm-collect-list-has-room-for-the-cost ()
  (rlm-test-with-odd-server '("paid")
    (rlm-add-files (list (rlm-test-file "a.txt" "text\n")))
    (setf (rlm-collection-name rlm-collection-current) (string-trim (make-string 30 ?a)))
    (rlm-test-in-list
      (rlm-test-wait-foot "\\$")
      (should (cddr (rlm-test-foot-lines)))
      (dolist (line (rlm-test-foot-lines))
        (should (< (string-width line) (window-width)))))))

(ert-deftest rlm-collect-list-marks-stay-when-it-is-sorted ()
  (rlm-test-collecting
    (dolist (name '("a" "b" "c"))
      (rlm-add-files (list (rlm-test-file (concat name ".txt") "text\n"))))
    (rlm-test-in-list
      (rlm-test-list-row "b.txt")
      (rlm-test-keys "d")
      (move-to-column 4)
      (rlm-test-keys "S S")
      (should (equal '((?\s . "c") (?D . "b") (?\s . "a")) (rlm-test-list-marks)))
      ;; What is taken out and added anew is not marked any more.
      (rlm-test-list-row "b.txt")
      (rlm-test-keys "k")
      (rlm-add-files (list (rlm-test-file "b.txt")))
      (rlm-test-list-row "b.txt")
      (should (looking-at-p "  "))
      (should-error (rlm-test-keys "x") :type 'user-error))))

(ert-deftest rlm-collect-list-prunes ()
  (rlm-test-collecting
    (dolist (name '("a" "b" "c" "d"))
      (rlm-add-files (list (rlm-test-file (concat name ".txt") "text\n"))))
    (rlm-test-in-list
      (rlm-test-list-row "a.txt")
      (rlm-test-keys "d d u")
      (rlm-test-list-row "b.txt")
      (rlm-test-keys "u")
      (rlm-test-list-row "d.txt")
      (rlm-test-keys "d")
      (rlm-test-list-row "a.txt")
      (should (looking-at-p "D"))
      (rlm-test-keys "x")
      (should (equal '((file "b.txt") (file "c.txt")) (rlm-test-collected)))
      (rlm-test-list-row "b.txt")
      (rlm-test-keys "k")
      (should (looking-at-p "  .*c\\.txt"))
      (should-error (rlm-test-keys "x") :type 'user-error)
      (rlm-test-keys "k")
      (should (string-match-p "Nothing is collected" (rlm-test-foot)))
      (should-error (rlm-test-keys "k") :type 'user-error)
      ;; What is added while the list is there appears in it.
      (rlm-add-files (list (rlm-test-file "a.txt")))
      (should (string-match-p "a\\.txt" (buffer-string))))))

(ert-deftest rlm-collect-list-previews-and-visits ()
  (rlm-test-collecting
    (rlm-add-items (list (rlm-item-of-text "a text\n" "(small)Boats" "rlm-buffer:x" "Info node")))
    (with-current-buffer (find-file-noselect (rlm-test-file "a.txt" "one\ntwo\nthree\n"))
      (rlm-add-items (list (rlm-item-of-part 5 9 "region"))))
    (rlm-test-in-list
      (rlm-test-list-row "a.txt")
      (rlm-test-keys "SPC")
      (should (eq (window-buffer) (current-buffer)))
      (let ((window (get-buffer-window "a.txt")))
        (should window)
        (should (= 5 (window-point window))))
      (rlm-test-list-row "Boats")
      (rlm-test-keys "RET")
      (should (equal "*rlm text: (small)Boats*" (buffer-name (window-buffer))))
      (should (equal "a text\n" (with-current-buffer (window-buffer) (buffer-string)))))))

(ert-deftest rlm-collect-what-is-gone-is-said ()
  (rlm-test-collecting
    (let ((file (rlm-test-file "a.txt" "text\n")))
      (rlm-add-files (list file))
      (delete-file file)
      (rlm-test-in-list
        (should (string-match-p "a\\.txt +gone" (buffer-string)))
        (should (string-match-p "In all: .*a\\.txt is gone; remove it" (rlm-test-foot)))
        (should-error (rlm-ask-collection "What?") :type 'user-error)
        (should-error (rlm-test-keys "RET") :type 'user-error))
      (should-not (seq-filter #'rlm-run-in-buffer (buffer-list))))))

(provide 'rlm-collect-test)
;;; rlm-collect-test.el ends here
